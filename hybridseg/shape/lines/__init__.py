"""Networks of lines: thinning (`skeleton`), mending (`graph`), and the stage itself (`network`)."""

from hybridseg.shape.lines.network import LINE_COLUMNS, NODE_COLUMNS, LineNetwork, Lines

__all__ = ["LINE_COLUMNS", "NODE_COLUMNS", "LineNetwork", "Lines"]
