// Package auth tells who a request to the catalog comes from, and what that principal may do.
//
// A principal comes from one of four places: a static bearer token, a token that this catalog issued to a client
// (OAuth2 client credentials), a token that a foreign issuer signed (OIDC), or a client certificate (mTLS). Each has
// roles, each role has grants, and a grant gives a Level on a table, on a namespace, or on all below a namespace.
//
// Invariants
//   - Deny by default: what no grant names has the level None.
//   - Names in grants are lists of parts, compared byte for byte. There are no patterns, so no character of a name can
//     become one.
//   - Secrets are kept as hashes and compared in constant time. No error, log or metric holds a secret or a token.
//   - Own tokens are HS256 under the catalog's key and are only accepted as such; foreign ones are checked with the
//     public keys of the issuer that they name, and only with the algorithms that the configuration allows for it.
//   - Everything that a stranger can grow is bounded: length of a token, keys of an issuer, how often keys are fetched.
//
// Rights are immutable after New and safe for concurrent use. An Authenticator owns the fetches of keys that run;
// Close ends them.
package auth
