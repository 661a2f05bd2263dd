"""SAM2: promptable models by name, sam2-lite, its memory over several dates, and one encoder for both sweeps."""
