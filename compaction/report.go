package compaction

import "time"

// Report is what one round did to a table, or would do.
type Report struct {
	Table   string `json:"table"`
	DryRun  bool   `json:"dry_run,omitempty"`
	Skipped string `json:"skipped,omitempty"` // why the table was not rewritten

	Jobs            []Job   `json:"jobs,omitempty"`
	ManifestsMerged int     `json:"manifests_merged,omitempty"` // small manifests that went into larger ones
	SnapshotID      int64   `json:"snapshot_id,omitempty"`      // of the rewrite; 0 when nothing was committed
	Conflicts       int     `json:"conflicts,omitempty"`        // heads that moved under the commit
	More            bool    `json:"more,omitempty"`             // there is work left for the next round
	Expired         int     `json:"expired,omitempty"`          // snapshots
	Tagged          int     `json:"tagged,omitempty"`           // snapshots that a calendar's tag keeps from now on
	Orphans         int     `json:"orphans,omitempty"`          // files deleted
	OrphanBytes     int64   `json:"orphan_bytes,omitempty"`
	Condemned       int     `json:"condemned,omitempty"` // files that no snapshot names and that wait for their grace to end
	Seconds         float64 `json:"seconds"`
}

// Job is one rewrite.
type Job struct {
	Spec      int    `json:"spec"`
	Partition string `json:"partition,omitempty"`
	Files     int    `json:"files"` // inputs
	Tier      int    `json:"tier"`
	Cold      bool   `json:"cold,omitempty"`
	Rows      int64  `json:"rows"`
	BytesIn   int64  `json:"bytes_in"`
	BytesOut  int64  `json:"bytes_out,omitempty"`
	Output    string `json:"output,omitempty"` // location of the new file
	Committed bool   `json:"committed,omitempty"`
	Error     string `json:"error,omitempty"`
}

// TableStatus is a table as the compactor saw it last.
type TableStatus struct {
	Table       string    `json:"table"`
	LiveFiles   int       `json:"live_files"`
	SmallFiles  int       `json:"small_files"`
	Bytes       int64     `json:"bytes"`
	Rows        int64     `json:"rows"`
	Manifests   int       `json:"manifests"`
	Snapshots   int       `json:"snapshots,omitempty"` // in the metadata, at the last expiry
	Quarantined []string  `json:"quarantined,omitempty"`
	Skipped     string    `json:"skipped,omitempty"`
	LastJob     time.Time `json:"last_job,omitzero"` // when a rewrite was committed last
	LastError   string    `json:"last_error,omitempty"`
	LastErrorAt time.Time `json:"last_error_at,omitzero"`
	Seen        time.Time `json:"seen"`
}
