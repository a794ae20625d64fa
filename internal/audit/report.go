package audit

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/firnlake/firn/internal/ledger"
)

// Verdict is the outcome of an audit.
type Verdict string

const (
	Clean    Verdict = "clean"
	Unproven Verdict = "unproven"
	Broken   Verdict = "broken"
)

// Kind is a stable code of what is wrong.
type Kind string

const (
	KindDoubled      Kind = "doubled_rows"
	KindMissing      Kind = "missing_records"
	KindPhantom      Kind = "phantom_rows"
	KindFiltered     Kind = "filtered_offsets"
	KindUnexplained  Kind = "unexplained_gap" // makes a table unproven and not broken, as the next
	KindRetentionGap Kind = "retention_gap"   // offsets that the gaps table names
	KindListedTwice  Kind = "file_listed_twice"
	KindDamaged      Kind = "damaged_file"
	KindRowCount     Kind = "row_count"
	KindNoLedger     Kind = "rows_without_ledger"
	KindNoRecord     Kind = "no_record"
	KindChain        Kind = "broken_chain"
	KindVector       Kind = "vector_and_rows"
	KindDeadOverlap  Kind = "dead_letter_and_row"
	KindDeadDoubled  Kind = "doubled_dead_letters"
	KindLog          Kind = "other_log"
)

// Problem is one thing that keeps a table from being clean.
type Problem struct {
	Kind      Kind     `json:"kind"`
	Partition *int32   `json:"partition,omitempty"`
	Count     int64    `json:"count,omitempty"`   // offsets concerned
	Offsets   string   `json:"offsets,omitempty"` // the first of them
	Files     []string `json:"files,omitempty"`
	Message   string   `json:"message"`
}

// Partition is the account of one partition. Offsets are -1 where there is none.
type Partition struct {
	Partition     int32 `json:"partition"`
	First         int64 `json:"first"` // offset of the first row
	Last          int64 `json:"last"`
	Rows          int64 `json:"rows"`
	Distinct      int64 `json:"distinct"` // offsets among the rows
	Doubled       int64 `json:"doubled"`
	Vector        int64 `json:"vector"`   // next offset to consume, of the head's record
	LastRow       int64 `json:"last_row"` // as the head's record says
	DeadLetters   int64 `json:"dead_letters"`
	DeadAbove     int64 `json:"dead_letters_above_vector"` // of a commit under way
	DeadRows      int64 `json:"dead_letter_and_row"`
	Redriven      int64 `json:"redriven"` // dead letters that were made rows since, and say so
	Control       int64 `json:"control"`
	Aborted       int64 `json:"aborted"`
	Compacted     int64 `json:"compacted"`      // offsets that log compaction emptied before they were read
	CompactedRows int64 `json:"compacted_rows"` // rows whose record log compaction has removed since
	Filtered      int64 `json:"filtered"`       // records that the pipeline's filter kept out, by its record
	Duplicates    int64 `json:"duplicates"`     // records that the pipeline's deduplication dropped, by its record
	Unexplained   int64 `json:"unexplained"`
	Deleted       int64 `json:"deleted"` // offsets of rows and dead letters that another engine's delete files take out, and no other row has
	Gaps          int64 `json:"gaps"`    // offsets that kafka had dropped before they were read, as the gaps table names them
	Missing       int64 `json:"missing"`
	Phantom       int64 `json:"phantom"`
	Compared      int64 `json:"compared"` // offsets held against the log
	NotHeld       int64 `json:"not_held"` // offsets that the log no longer holds
}

// Report is what an audit found.
type Report struct {
	Table            string        `json:"table"`
	DeadLetterTable  string        `json:"dead_letter_table,omitempty"`
	Verdict          Verdict       `json:"verdict"`
	SnapshotID       int64         `json:"snapshot_id,omitempty"`
	Pipeline         string        `json:"pipeline,omitempty"`
	Epoch            int64         `json:"epoch"`
	Topics           ledger.Topics `json:"topics,omitempty"`  // of a table that several go to: partitions have the table's numbers
	Records          int           `json:"records"`           // snapshots with a record, of those still in the metadata
	ForeignSnapshots int           `json:"foreign_snapshots"` // without
	Kafka            bool          `json:"kafka"`             // compared with the log
	Files            int           `json:"files"`
	FilesByArrow     int           `json:"files_by_arrow"` // read with the library that Firn writes with (LZ4)
	Rows             int64         `json:"rows"`
	Distinct         int64         `json:"distinct"`
	Pages            int64         `json:"pages"`
	PagesVerified    int64         `json:"pages_verified"` // had a checksum, which was right
	Partitions       []Partition   `json:"partitions"`
	Problems         []Problem     `json:"problems"`
	MoreProblems     int           `json:"more_problems,omitempty"` // left out
	Notes            []string      `json:"notes,omitempty"`
}

// maxProblems bounds the report of a thoroughly broken table.
const maxProblems = 1000

func (r *Report) problem(p Problem) {
	if p.Kind != KindUnexplained && p.Kind != KindRetentionGap {
		r.Verdict = Broken
	} else if r.Verdict == "" {
		r.Verdict = Unproven
	}
	if len(r.Problems) >= maxProblems {
		r.MoreProblems++
		return
	}
	r.Problems = append(r.Problems, p)
}

func (r *Report) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

func (r *Report) has(kinds ...Kind) bool {
	return slices.ContainsFunc(r.Problems, func(p Problem) bool { return slices.Contains(kinds, p.Kind) })
}

func (r *Report) finish() {
	if r.Verdict == "" {
		r.Verdict = Clean
	}
	for _, p := range r.Partitions {
		r.Rows, r.Distinct = r.Rows+p.Rows, r.Distinct+p.Distinct
	}
	if r.FilesByArrow > 0 {
		r.note("%d files with LZ4 were read with arrow-go: parquet-go misreads that compression", r.FilesByArrow)
	}
	if r.Problems == nil {
		r.Problems = []Problem{} // JSON: none, not null
	}
	slices.SortStableFunc(r.Problems, func(a, b Problem) int {
		part := func(p Problem) int64 {
			if p.Partition == nil {
				return -1
			}
			return int64(*p.Partition)
		}
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(part(a), part(b)), cmp.Compare(strings.Join(a.Files, " "), strings.Join(b.Files, " ")))
	})
}

// Clean tells whether the table is proved to hold each record exactly once.
func (r *Report) Clean() bool { return r.Verdict == Clean }

// String is the report for people.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", r.Table, r.headline())
	fmt.Fprintf(&b, "snapshot %d, pipeline %s, epoch %d; %d data files, %d rows, %d distinct offsets; %d of %d pages had a checksum, all right\n\n",
		r.SnapshotID, cmp.Or(r.Pipeline, "unknown"), r.Epoch, r.Files, r.Rows, r.Distinct, r.PagesVerified, r.Pages)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "partition\tfirst\tlast\trows\tdistinct\tdoubled\tdead letters\tcontrol\taborted\tcompacted\tgaps\tdeleted\tfiltered\tduplicates\tunexplained\tmissing\tphantom\tvector\tlast row\t\n")
	for _, p := range r.Partitions {
		log := func(n int64) string {
			if !r.Kafka {
				return "?"
			}
			return fmt.Sprint(n)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t\n", r.label(p.Partition), at(p.First), at(p.Last), p.Rows, p.Distinct, p.Doubled,
			p.DeadLetters, log(p.Control), log(p.Aborted), log(p.Compacted+p.CompactedRows), p.Gaps, p.Deleted, p.Filtered, p.Duplicates, p.Unexplained, log(p.Missing), log(p.Phantom), at(p.Vector), at(p.LastRow))
	}
	_ = w.Flush() // a strings.Builder takes everything
	for _, p := range r.Problems {
		b.WriteString("\n" + p.text(r))
	}
	if r.MoreProblems > 0 {
		fmt.Fprintf(&b, "\nand %d more", r.MoreProblems)
	}
	for _, n := range r.Notes {
		b.WriteString("\nnote: " + n)
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

func (r *Report) headline() string {
	var n int64
	for _, p := range r.Partitions {
		n += p.Deleted
	}
	deleted := ""
	if n > 0 {
		deleted = fmt.Sprintf(", or was deleted by another engine (%d)", n)
	}
	switch r.Verdict {
	case Clean:
		if r.Kafka {
			return "clean: every record of the log below the vector is a row or a dead letter, once" + deleted
		}
		return "clean: every offset below the vector is a row or a dead letter, once" + deleted
	case Unproven:
		return "not proved clean: nothing is wrong, but some offsets are not accounted for"
	}
	return fmt.Sprintf("NOT CLEAN: %d problems", len(r.Problems)+r.MoreProblems)
}

// label is what to call a partition: TOPIC/PARTITION where several topics go to the table.
func (r *Report) label(number int32) string {
	t, p := r.Topics.Of(number)
	if t.Name == "" {
		return fmt.Sprint(number)
	}
	return fmt.Sprintf("%s/%d", t.Name, p)
}

func (p Problem) text(r *Report) string {
	var b strings.Builder
	b.WriteString(string(p.Kind))
	if p.Partition != nil {
		fmt.Fprintf(&b, ", partition %s", r.label(*p.Partition))
	}
	b.WriteString(": ")
	if p.Count > 0 {
		fmt.Fprintf(&b, "%d ", p.Count)
	}
	b.WriteString(p.Message)
	if p.Offsets != "" {
		fmt.Fprintf(&b, ": %s", p.Offsets)
	}
	for _, f := range p.Files {
		b.WriteString("\n    " + f)
	}
	return b.String()
}

func at(offset int64) string {
	if offset < 0 {
		return "-"
	}
	return fmt.Sprint(offset)
}
