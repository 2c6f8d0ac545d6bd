package models

import (
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Workload is everything that a tenant reported under one workload_id.
type Workload struct {
	Batched

	UserID     int
	WorkloadID string

	// Of is the subject whose list the workload was read for. LastSeen is set in lists of recent workloads.
	Of       Subject
	LastSeen time.Time
}

func (*Workload) IsNode()      {}
func (w *Workload) ID() string { return globalID(KindWorkload, w.key()) }

func (w *Workload) key() string { return strconv.Itoa(w.UserID) + ":" + w.WorkloadID }

// Cursor is the workload's position among recent ones.
func (w *Workload) Cursor(order Order) Cursor {
	return Cursor{Column: order.Column, Value: CursorTime(w.LastSeen), ID: w.key()}
}

// RecentWorkloads is the order of recent workloads: the latest first.
var RecentWorkloads = Order{Column: "last_seen", Type: Timestamp, IDType: WorkloadKey, Descending: true}

// ParseWorkloadKey reads the key of a Workload in ids and cursors: the tenant and the workload_id.
func ParseWorkloadKey(key string) (userID int, workloadID string, err error) {
	user, workloadID, found := strings.Cut(key, ":")
	n, err := strconv.ParseInt(user, 10, 32)
	if err != nil || !found || n < 1 || strconv.FormatInt(n, 10) != user || CheckText(workloadID) != nil {
		return 0, "", Errorf(BadUserInput, "malformed id: use an id as the API gave it")
	}
	return int(n), workloadID, nil
}

// WorkloadRecency is a row of the view recent_workloads: what was reported within seven days.
type WorkloadRecency struct {
	LastSeen         time.Time
	EventCount       int64
	UniqueEventTypes int
}

// WorkloadEvent is a row of workload_events.
type WorkloadEvent struct {
	Batched

	EventID       uuid.UUID
	Timestamp     time.Time
	UserID        int
	WorkloadID    string
	EventType     string
	EventCategory string
	Metrics       []*EventMetric
	Dimensions    JSON
	Metadata      JSON

	Of Subject // whose list the event was read for
}

// EventMetric is one value that an event reports.
type EventMetric struct {
	Name  string
	Value float64
	Unit  string
}

// Cursor is the event's position under order.
func (e *WorkloadEvent) Cursor(order Order) Cursor {
	return Cursor{Column: order.Column, Value: CursorTime(e.Timestamp), ID: e.EventID.String()}
}

// LatestEvents is the order of workload events: the latest first.
var LatestEvents = Order{Column: "timestamp", Type: Timestamp, IDType: UUID, Descending: true}

// WorkloadEventFilter narrows a list of workload events.
type WorkloadEventFilter struct {
	EventType     []string
	EventCategory []string
	Metric        *string
	Timestamp     *TimeFilter
	Dimensions    JSON // an object of strings
}

type (
	WorkloadConnection      = Connection[*Workload]
	WorkloadEdge            = Edge[*Workload]
	WorkloadEventConnection = Connection[*WorkloadEvent]
	WorkloadEventEdge       = Edge[*WorkloadEvent]
)
