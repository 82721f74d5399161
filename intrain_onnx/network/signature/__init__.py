"""What a model takes: names of dimensions, the axis of the samples, roles of inputs, sizes that fit."""
