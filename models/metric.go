package models

import "time"

// TimeRange is half open: From is in it, To is not.
type TimeRange struct {
	From, To time.Time
}

// TimeFilter is a half-open range with optional ends.
type TimeFilter struct {
	From, To *time.Time
}

// MetricSummary is what is known of one metric over a range. Values are in Unit.
type MetricSummary struct {
	Metric  string
	Unit    string
	Count   int64
	Total   float64
	Average float64
	Min     float64
	Max     float64
	P50     float64
	P90     float64
	P95     float64
	P99     float64
}
