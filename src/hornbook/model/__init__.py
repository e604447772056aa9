"""The phi family: config, attention, rope, decoder; Hugging Face and GGUF in and out."""
