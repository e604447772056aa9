"""The engine: batched generation, sampling, quantized weights."""
