"""Second sweep: where, exactly. Windows, prompts to masks, the gate, tracing."""
