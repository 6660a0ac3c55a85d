"""Pure statistics: arrays in, numbers out. No input or output, numpy only."""
