"""The InTrain score and its variants, computed from measurements."""
