package ingest

import (
	"errors"
	"time"

	"github.com/netra-ai/netra/models"
)

// ReadEvent is what was read from a line.
type ReadEvent struct {
	Workload, Type, Category, Metadata string
	Names, Units                       []string
	Values                             []float64
	Dimensions                         map[string]string
}

// ReadLine reads one line as RecordLines does.
func ReadLine(viewer models.Viewer, now time.Time, line []byte) (*ReadEvent, error) {
	e, err := newReader().of(viewer, now).readLine(line)
	if err != nil {
		return nil, err
	}
	read := &ReadEvent{Workload: string(e.workload), Type: string(e.kind), Category: string(e.category), Metadata: string(e.metadata), Dimensions: map[string]string{}}
	for _, m := range e.metrics {
		read.Names, read.Units, read.Values = append(read.Names, string(m.name)), append(read.Units, string(m.unit)), append(read.Values, m.value)
	}
	for _, d := range e.dimensions {
		read.Dimensions[string(d.key)] = string(d.value)
	}
	return read, nil
}

// IsMistake tells an error that its sender is told.
func IsMistake(err error) bool {
	var m *mistake
	return errors.As(err, &m)
}
