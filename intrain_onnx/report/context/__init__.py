"""A score in context: among reference networks like its own, and beside what can be counted. No torch.

inputs      what a network reads, in words: scores at other inputs cannot be compared
references  the stored scores of reference networks, and which of them are like a network
standing    the percentile of a report among them
overlap     rank correlation of the scores at hand with layers, #Params, MACs and activations
"""
