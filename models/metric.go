package models

import (
	"io"
	"time"
)

// TimeRange is half open: From is in it, To is not.
type TimeRange struct {
	From, To time.Time
}

// TimeFilter is a half-open range with optional ends.
type TimeFilter struct {
	From, To *time.Time
}

// SubjectKind is a type of the graph that can be measured.
type SubjectKind int8

const (
	SubjectPlatform SubjectKind = iota
	SubjectUser
	SubjectThread
	SubjectWorkload
)

// Subject is whose workload events a question is about. A run is the workload of its id.
type Subject struct {
	Kind   SubjectKind
	UserID int    // the tenant; 0 for the platform
	ID     string // the id of the thread or workload; empty otherwise
}

// Measured is what workload events are known of.
type Measured interface {
	IsMeasured()
	// Subject is whose events these are.
	Subject() Subject
	Cohort() Cohort
}

func (*User) IsMeasured()     {}
func (*Thread) IsMeasured()   {}
func (*Run) IsMeasured()      {}
func (*Workload) IsMeasured() {}
func (*Platform) IsMeasured() {}

func (u *User) Subject() Subject { return Subject{Kind: SubjectUser, UserID: u.DatabaseID} }
func (t *Thread) Subject() Subject {
	return Subject{Kind: SubjectThread, UserID: t.UserID, ID: t.DatabaseID.String()}
}
func (r *Run) Subject() Subject {
	return Subject{Kind: SubjectWorkload, UserID: r.UserID, ID: r.DatabaseID.String()}
}
func (w *Workload) Subject() Subject {
	return Subject{Kind: SubjectWorkload, UserID: w.UserID, ID: w.WorkloadID}
}
func (*Platform) Subject() Subject { return Subject{Kind: SubjectPlatform} }

// Platform is everybody's workloads together.
type Platform struct {
	Batched
}

// TimeStep is the length of a series' steps.
type TimeStep string

const (
	StepFifteenMinutes TimeStep = "FIFTEEN_MINUTES"
	StepHour           TimeStep = "HOUR"
	StepDay            TimeStep = "DAY"
	StepWeek           TimeStep = "WEEK"
	StepMonth          TimeStep = "MONTH"
)

func (s TimeStep) MarshalGQL(w io.Writer) { marshalEnum(w, s) }
func (s *TimeStep) UnmarshalGQL(v any) error {
	return unmarshalUpper(v, s, []TimeStep{StepFifteenMinutes, StepHour, StepDay, StepWeek, StepMonth})
}

// MetricSummary is what is known of one metric over a range. Values are in Unit. Percentiles and Previous are there when they were asked for.
type MetricSummary struct {
	Metric             string
	Unit               string
	Count              int64
	Total              float64
	Average            float64
	Min                float64
	Max                float64
	P50, P90, P95, P99 float64
	Previous           *PreviousMetric
}

// PreviousMetric is the same metric over the range of the same length before.
type PreviousMetric struct {
	From, To time.Time
	Count    int64
	Value    float64  // the total
	Ratio    *float64 // of the total to Value; nil where Value is 0
}

// MetricPoint is one step of a series. Without values, what needs one is nil.
type MetricPoint struct {
	From, To           time.Time
	Unit               string
	Count              int64
	Total              float64
	Average, Min, Max  *float64
	P50, P90, P95, P99 *float64
}

// MetricSlice is a metric's values that have one value of a dimension, or those of all dimension values beyond the largest.
type MetricSlice struct {
	Label    string
	Other    bool
	Unit     string
	Count    int64
	Total    float64
	Average  float64
	Min, Max float64
	Share    *float64 // of the totals of all slices; nil where these are 0 together
}

// HistogramBucket counts values from From to To.
type HistogramBucket struct {
	From, To float64
	Unit     string
	Count    int64
}

// Usage is what was used, by the names of metrics that docs/analytics.md lists.
type Usage struct {
	Requests        int64
	Errors          int64
	ErrorRate       *float64 // nil without requests
	TokensInput     int64
	TokensOutput    int64
	TokensPerSecond *float64 // of output; nil without latencies
	CostUsd         float64
}

// ActivityDay is what a user, or everybody, did of one kind on one day (UTC).
type ActivityDay struct {
	Date            time.Time
	Action          string
	Count           int64
	TotalDurationMs int64
}

// AverageDurationMs is nil for nothing.
func (a *ActivityDay) AverageDurationMs() *float64 {
	if a.Count == 0 {
		return nil
	}
	average := float64(a.TotalDurationMs) / float64(a.Count)
	return &average
}

// ActiveUsers is how many users did something within a day, week or month (UTC) that begins at Date.
type ActiveUsers struct {
	Date  time.Time
	Count int
}
