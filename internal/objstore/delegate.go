package objstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/signer"

	"github.com/firnlake/firn/internal/units"
)

const (
	// MinKeyLifetime and MaxKeyLifetime are what STS accepts for temporary keys.
	MinKeyLifetime = 15 * time.Minute
	MaxKeyLifetime = 12 * time.Hour
	// stsTimeout bounds one request for temporary keys.
	stsTimeout = 5 * time.Second
	// maxPolicyBytes is what STS takes as a session's policy.
	maxPolicyBytes = 2048
)

// ErrNoScope: a prefix that a policy cannot name without naming others as well.
var ErrNoScope = errors.New("no policy can be confined to the prefix")

// Keys are temporary keys to a part of a store.
type Keys struct {
	AccessKey, SecretKey, SessionToken units.Secret
	Expires                            time.Time
}

// Scope says what temporary keys are for.
type Scope struct {
	Prefix   string // key of a directory of the store; all below it
	Write    bool   // also put and delete
	Lifetime time.Duration
	// Endpoint of STS; empty is the storage's own, or that of the region at AWS.
	Endpoint string
	// RoleARN is the role to assume, which AWS wants and MinIO does not heed.
	RoleARN string
}

// TemporaryKeys asks STS for keys that a policy confines to the scope.
func (s *S3) TemporaryKeys(ctx context.Context, scope Scope) (Keys, error) {
	policy, err := s.policy(scope)
	if err != nil {
		return Keys{}, fmt.Errorf("temporary keys for %s: %w", scope.Prefix, err)
	}
	endpoint := scope.Endpoint
	switch {
	case endpoint != "":
	case s.endpoint == defaultS3Endpoint:
		endpoint = "https://sts." + s.region + ".amazonaws.com"
	default:
		endpoint = s.endpoint
	}
	role := &credentials.STSAssumeRole{STSEndpoint: endpoint, Options: credentials.STSAssumeRoleOptions{
		AccessKey: s.keys.AccessKey.Reveal(), SecretKey: s.keys.SecretKey.Reveal(), Policy: policy, Location: s.region,
		DurationSeconds: int(scope.Lifetime / time.Second), RoleARN: scope.RoleARN, RoleSessionName: "firn-catalog"}}
	ctx, cancel := context.WithTimeout(ctx, stsTimeout)
	defer cancel()
	v, err := role.RetrieveWithCredContext(&credentials.CredContext{Client: &http.Client{Transport: s.transport}, Context: ctx})
	if err != nil {
		return Keys{}, fmt.Errorf("temporary keys for %s (sts %s): %w", scope.Prefix, endpoint, stsError(err))
	}
	return Keys{AccessKey: units.NewSecret(v.AccessKeyID), SecretKey: units.NewSecret(v.SecretAccessKey),
		SessionToken: units.NewSecret(v.SessionToken), Expires: v.Expiration}, nil
}

func stsError(err error) error {
	var r credentials.ErrorResponse
	if errors.As(err, &r) {
		switch r.STSError.Code {
		case "AccessDenied", "InvalidClientTokenId", "SignatureDoesNotMatch":
			return fmt.Errorf("%w: %s: may the storage keys assume a role?", ErrAccessDenied, r.STSError.Code)
		}
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// plain are the bytes that mean themselves in a policy: no wildcard, no variable.
func plain(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f || strings.ContainsRune(`*?$\`, r) })
}

// policy confines a session to the scope. The prefix ends in a slash wherever it stands before a wildcard, so that
// "a/t" does not stand for "a/t2" too.
func (s *S3) policy(scope Scope) (string, error) {
	if scope.Prefix == "" || checkKey(scope.Prefix) != nil {
		return "", fmt.Errorf("%w: %q is no directory", ErrNoScope, scope.Prefix)
	}
	prefix := s.prefix + scope.Prefix + "/"
	if !plain(prefix) || !plain(s.bucket) {
		return "", fmt.Errorf("%w: %q has a character that is a wildcard or a variable there", ErrNoScope, scope.Prefix)
	}
	type statement struct {
		Effect    string
		Action    []string
		Resource  []string
		Condition map[string]map[string][]string `json:",omitempty"`
	}
	actions := []string{"s3:GetObject"}
	if scope.Write {
		actions = append(actions, "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts")
	}
	bucket := "arn:aws:s3:::" + s.bucket
	raw, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": []statement{
		{Effect: "Allow", Action: actions, Resource: []string{bucket + "/" + prefix + "*"}},
		{Effect: "Allow", Action: []string{"s3:ListBucket"}, Resource: []string{bucket},
			Condition: map[string]map[string][]string{"StringLike": {"s3:prefix": {prefix + "*"}}}},
	}})
	if err == nil && len(raw) > maxPolicyBytes {
		err = fmt.Errorf("%w: the policy has %d bytes, STS takes %d", ErrNoScope, len(raw), maxPolicyBytes)
	}
	return string(raw), err
}

// Sign signs a request to the storage with keys, or with the store's own when keys is nil. It signs all of the request's
// headers and sets x-amz-date, authorization and, with a session, x-amz-security-token. Nothing is sent.
func (s *S3) Sign(r *http.Request, keys *Keys) {
	if keys == nil {
		keys = &Keys{AccessKey: s.keys.AccessKey, SecretKey: s.keys.SecretKey}
	}
	signer.SignV4(*r, keys.AccessKey.Reveal(), keys.SecretKey.Reveal(), keys.SessionToken.Reveal(), s.region)
}

// Bucket is where the store's keys lie.
func (s *S3) Bucket() string { return s.bucket }

// Prefix is what they begin with there: empty, or with a slash at its end.
func (s *S3) Prefix() string { return s.prefix }

// Region is that of signatures.
func (s *S3) Region() string { return s.region }
