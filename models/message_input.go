package models

// PostMessageInput is what the mutation postMessage takes.
type PostMessageInput struct {
	ThreadID       string
	Content        string
	Metadata       JSON         `json:",omitzero"`
	StartRun       *NewRunInput `json:",omitzero"`
	IdempotencyKey *string      `json:"-"`
}

// NewRunInput is a run that a message starts.
type NewRunInput struct {
	AgentType *string `json:",omitzero"`
	InputData JSON    `json:",omitzero"`
	Metadata  JSON    `json:",omitzero"`
}

// PostMessagePayload is what the mutation postMessage answers.
type PostMessagePayload struct {
	Message    *Message
	Run        *Run
	UserErrors []*UserError
}

// AppendMessageInput is what the mutation appendMessage takes.
type AppendMessageInput struct {
	ThreadID       string
	Role           MessageRole
	Content        string
	TokensUsed     *int    `json:",omitzero"`
	Model          *string `json:",omitzero"`
	Metadata       JSON    `json:",omitzero"`
	IdempotencyKey *string `json:"-"`
}

// AppendMessagePayload is what the mutation appendMessage answers.
type AppendMessagePayload struct {
	Message    *Message
	UserErrors []*UserError
}
