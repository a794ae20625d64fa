package wire

import "encoding/json"

// Exception names of scan planning.
const (
	TypeNoSuchPlan = "NoSuchPlanIdException"
	TypeNoSuchTask = "NoSuchPlanTaskException"
)

// PlanRequest asks which files a scan reads.
type PlanRequest struct {
	Snapshot       *int64          `json:"snapshot-id"`
	Start          *int64          `json:"start-snapshot-id"`
	End            *int64          `json:"end-snapshot-id"`
	Select         []string        `json:"select"`
	Filter         json.RawMessage `json:"filter"`
	MinRows        *int64          `json:"min-rows-requested"`
	CaseSensitive  *bool           `json:"case-sensitive"` // absent: true
	SnapshotSchema bool            `json:"use-snapshot-schema"`
	Stats          []string        `json:"stats-fields"`
}

// TasksRequest asks for the files of one plan task.
type TasksRequest struct {
	Task string `json:"plan-task"`
}

// The statuses of a plan that Firn knows: it answers at once.
const PlanCompleted = "completed"

// Plan is the answer to a PlanRequest.
type Plan struct {
	Status string `json:"status"`
	ID     string `json:"plan-id,omitempty"`
	ScanTasks
	Credentials []StorageCredential `json:"storage-credentials,omitempty"`
}

// ScanTasks are files to read, and further tasks to ask for. Deletes are those that the files refer to, and no others.
type ScanTasks struct {
	Deletes []ContentFile  `json:"delete-files,omitempty"`
	Files   []FileScanTask `json:"file-scan-tasks,omitempty"`
	Tasks   []string       `json:"plan-tasks,omitempty"`
}

// FileScanTask is a data file, the places of its delete files in the answer, and what is left of the filter. Without a
// Residual every row of the file passes.
type FileScanTask struct {
	File     ContentFile     `json:"data-file"`
	Deletes  []int           `json:"delete-file-references,omitempty"`
	Residual json.RawMessage `json:"residual-filter,omitempty"`
}

// ContentFile is a data file or a delete file.
type ContentFile struct {
	Spec      int             `json:"spec-id"`
	Partition json.RawMessage `json:"partition"`
	Content   string          `json:"content"`
	Path      string          `json:"file-path"`
	Format    string          `json:"file-format"`
	Size      int64           `json:"file-size-in-bytes"`
	Rows      int64           `json:"record-count"`
	Key       string          `json:"key-metadata,omitempty"` // hexadecimal
	Splits    []int64         `json:"split-offsets,omitempty"`
	SortOrder *int            `json:"sort-order-id,omitempty"`

	FirstRow *int64    `json:"first-row-id,omitempty"`
	Sizes    *CountMap `json:"column-sizes,omitempty"`
	Values   *CountMap `json:"value-counts,omitempty"`
	Nulls    *CountMap `json:"null-value-counts,omitempty"`
	NaNs     *CountMap `json:"nan-value-counts,omitempty"`
	Lower    *ValueMap `json:"lower-bounds,omitempty"`
	Upper    *ValueMap `json:"upper-bounds,omitempty"`

	Equality []int  `json:"equality-ids,omitempty"`
	Offset   *int64 `json:"content-offset,omitempty"`
	Length   *int64 `json:"content-size-in-bytes,omitempty"`
	// References is the data file that a deletion vector is for: Java's clients want it, though the document has it not.
	References string `json:"referenced-data-file,omitempty"`
}

// CountMap gives counts by column id.
type CountMap struct {
	Keys   []int   `json:"keys"`
	Values []int64 `json:"values"`
}

// ValueMap gives bounds by column id: Iceberg's single-value bytes, in hexadecimal, as Java's clients read them.
type ValueMap struct {
	Keys   []int    `json:"keys"`
	Values []string `json:"values"`
}
