// Package embeddings has an OpenAI-compatible endpoint embed texts: those of references in the background, those of searches while somebody waits.
package embeddings
