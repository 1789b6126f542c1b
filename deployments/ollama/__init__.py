"""Writes the prompt: an LLM behind Ollama or, while that is missing, a composer that works by rule."""
