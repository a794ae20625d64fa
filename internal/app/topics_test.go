package app

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/audit"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/units"
)

func TestTopicsOfAPipeline(t *testing.T) {
	for said, want := range map[string]string{
		"table: a.b, topic: x, topics: [y, z]":                      "topics: topic is there too",
		"table: a.b, topics: [y, z]":                                "",
		"table: a.b, topics: []":                                    "topics: it is empty",
		"table: a.b":                                                "topic is missing",
		"table: a.b, topics: [y, z, y]":                             "topics[2]: y is there twice",
		"table: a.b, topics: ['y,z']":                               `topics[0]: topic "y,z": a name has`,
		"table: a.b, topics: [y, z], dead_letter_topic: z":          "dead_letter_topic: it must be another topic",
		"topics: [y], match: all, routes: [{table: a.b, where: a}]": "topics that go to several tables are not built",
	} {
		_, err := pipelineConfig(t, "schema: people.json, "+said)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", said, err, want)
		}
	}
	if _, err := pipelineConfig(t, "table: a.b, topics: [y], format: avro, registry: {url: 'http://127.0.0.1:1'}"); err == nil || !strings.Contains(err.Error(), "subject: with topics") {
		t.Errorf("a subject that nobody named: %v", err)
	}
}

// severalTopics is a pipeline whose topics change between its starts.
type severalTopics struct {
	t   *testing.T
	dir string
	id  catalog.Identifier
	p   *Process
	c   *Client
}

func (s *severalTopics) up(change func(*Pipeline)) {
	s.t.Helper()
	pl := Pipeline{Name: "people", Table: s.id.String(), contract: []byte(peopleContract), CommitInterval: units.Duration(100 * time.Millisecond)}
	change(&pl)
	pl = pl.WithDefaults()
	if err := pl.Validate(); err != nil {
		s.t.Fatal(err)
	}
	s.p = upWith(s.t, s.dir, Demo{}, slog.New(slog.DiscardHandler), []Role{RoleCatalog, RoleQuery, RoleIngest}, func(c *Config) { c.Pipelines = []Pipeline{pl} })
	s.c = clientOf(s.t, s.dir)
	s.c.cfg.Pipelines, s.c.cfg.Kafka = s.p.cfg.Pipelines, s.p.cfg.Kafka
}

// clean waits until the audit against the topics proves the table, with so many rows and dead letters.
func (s *severalTopics) clean(what string, rows, dead int64) *audit.Report {
	s.t.Helper()
	var r *audit.Report
	eventually(s.t, what, func() (bool, string) {
		var err error
		if r, err = s.c.Audit(s.t.Context(), s.id.String(), AuditOptions{Kafka: true}); err != nil {
			return false, err.Error()
		}
		var letters int64
		for _, p := range r.Partitions {
			letters += p.DeadLetters - p.Redriven
		}
		return r.Verdict == audit.Clean && r.Rows == rows && letters == dead, r.String() + fmt.Sprintf("%+v", s.p.Status().Pipelines[0].Verdict)
	})
	return r
}

func (s *severalTopics) rows() []string {
	s.t.Helper()
	got := sqlRows(s.t, s.c, "select id, _kafka_topic, _kafka_partition, _kafka_offset from "+s.id.String()+" order by id")
	slices.Sort(got)
	return got
}

// TestTopicsComeAndGo: a table of one topic becomes one of several; a topic comes, one goes and comes again, in another order each
// time. Their places in the table stay, also when it is set back to the time before it had several; each record is there once; rows,
// dead letters and reports name the topics.
func TestTopicsComeAndGo(t *testing.T) {
	s := &severalTopics{t: t, dir: t.TempDir(), id: catalog.Identifier{"crm", "all_people"}}
	s.up(func(p *Pipeline) { p.Topic = "x" })
	produce(t, s.p, "x", `{"id":1}`, `{"id":2}`, `{"kind":"x's"}`)
	before := s.clean("the table of x", 2, 1).SnapshotID
	down(t, s.p)

	s.up(func(p *Pipeline) { p.Topics = []string{"y", "x"} })
	produce(t, s.p, "y", `{"id":3}`, `{"kind":"y's"}`)
	produce(t, s.p, "x", `{"id":4}`)
	r := s.clean("the table of x and y", 4, 2)
	if len(r.Topics) != 2 || r.Topics[0].Name != "x" || r.Topics[1].Name != "y" || !strings.Contains(r.String(), "y/0") {
		t.Errorf("%+v in\n%s", r.Topics, r)
	}
	want := []string{"1 (null) 0 0", "2 (null) 0 1", "3 y 1048576 0", "4 x 0 3"}
	if got := s.rows(); !slices.Equal(got, want) {
		t.Errorf("rows %v, want %v", got, want)
	}
	down(t, s.p)

	s.up(func(p *Pipeline) { p.Topics = []string{"z", "y"} })
	produce(t, s.p, "z", `{"id":5}`)
	produce(t, s.p, "x", `{"id":6}`)
	s.clean("the table without x, with z", 5, 2)
	o, err := s.c.Offsets(t.Context(), s.id.String())
	if err != nil || o.Topic != "x, y, z" || o.Lag != 0 {
		t.Errorf("%+v, %v", o, err)
	}
	at := slices.IndexFunc(o.Partitions, func(p PartitionState) bool { return p.Partition == ledger.Number(2, 0) })
	if at < 0 || o.Partitions[at].Topic != "z" || *o.Partitions[at].TopicPartition != 0 || o.Partitions[at].LogEnd != 1 || o.Partitions[at].Next != 1 {
		t.Errorf("%+v", o.Partitions)
	}
	down(t, s.p)

	s.up(func(p *Pipeline) { p.Topics = []string{"x", "y", "z"} })
	defer func() { down(t, s.p) }()
	s.clean("the table of all three", 6, 2)
	rewound, err := s.c.Rewind(t.Context(), s.id.String(), RewindOptions{Snapshot: before, Keep: DefaultKeepHead})
	if err != nil || rewound.Again != 5 || rewound.Topic != "x, y, z" {
		t.Fatalf("%+v, %v", rewound, err)
	}
	if r := s.clean("the table after it was set back", 6, 2); fmt.Sprint(r.Topics.Names()) != "[x y z]" {
		t.Errorf("places after a rewind: %v", r.Topics)
	}
	want = append(want, "5 z 2097152 0", "6 x 0 4")
	if got := s.rows(); !slices.Equal(got, want) {
		t.Errorf("rows %v, want %v", got, want)
	}
	s.redriven(append(want, "(null) x 0 2", "(null) y 1048576 1"))
}

// redriven makes rows of the dead letters by a contract that lets them.
func (s *severalTopics) redriven(want []string) {
	t := s.t
	letters, err := s.c.DeadLetters(t.Context(), s.id.String(), DeadLetterOptions{})
	if err != nil || len(letters) != 2 || letters[0].Topic+letters[1].Topic != "yx" && letters[0].Topic+letters[1].Topic != "xy" {
		t.Errorf("dead letters %+v, %v", letters, err)
	}
	s.c.cfg.Pipelines = slices.Clone(s.c.cfg.Pipelines)
	s.c.cfg.Pipelines[0].contract = []byte(strings.Replace(peopleContract, `"required":["id"],`, "", 1))
	if r, err := s.c.Redrive(t.Context(), s.id.String(), RedriveOptions{}); err != nil || r.Rows != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	s.clean("the table with the dead letters", 8, 0)
	got := s.rows()
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("rows %v, want %v", got, want)
	}
}
