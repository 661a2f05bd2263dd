"""Second sweep: where, exactly. Windows, refining, the gate, tracing."""
