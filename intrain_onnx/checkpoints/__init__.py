"""What changes during a training: checkpoints of one network measured one after the other, and alarms."""
