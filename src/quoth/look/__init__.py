"""What happens inside a model: parts switched off, and what each layer holds, attends to and expects."""
