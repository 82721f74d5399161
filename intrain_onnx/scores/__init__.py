"""What was measured, as the InTrain score and as named ones."""
