package models

// StartRunInput is what the mutation startRun takes.
type StartRunInput struct {
	ThreadID       *string `json:",omitzero"`
	AgentType      *string `json:",omitzero"`
	InputData      JSON
	Metadata       JSON    `json:",omitzero"`
	IdempotencyKey *string `json:"-"`
}

// CancelRunInput is what the mutation cancelRun takes.
type CancelRunInput struct {
	ID              string
	ExpectedVersion *int    `json:",omitzero"`
	IdempotencyKey  *string `json:"-"`
}

// RetryRunInput is what the mutation retryRun takes.
type RetryRunInput struct {
	ID             string
	IdempotencyKey *string `json:"-"`
}

// CancelRunsInput is what the mutation cancelRuns takes.
type CancelRunsInput struct {
	IDs            []string
	IdempotencyKey *string `json:"-"`
}

// AdvanceRunInput is what the mutation advanceRun takes.
type AdvanceRunInput struct {
	ID              string
	Status          RunStatus
	ExpectedVersion *int    `json:",omitzero"`
	OutputData      JSON    `json:",omitzero"`
	ErrorMessage    *string `json:",omitzero"`
	IdempotencyKey  *string `json:"-"`
}

// RunPayload is what mutations of one run answer.
type RunPayload struct {
	Run        *Run
	UserErrors []*UserError
}

type (
	StartRunPayload   = RunPayload
	CancelRunPayload  = RunPayload
	RetryRunPayload   = RunPayload
	AdvanceRunPayload = RunPayload
)

// RunResult is what became of one of several runs.
type RunResult struct {
	ID         string
	Run        *Run
	UserErrors []*UserError
}

// CancelRunsPayload is what the mutation cancelRuns answers.
type CancelRunsPayload struct {
	Results    []*RunResult
	UserErrors []*UserError
}
