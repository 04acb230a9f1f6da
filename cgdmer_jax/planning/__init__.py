"""What a training would need on devices that are not there."""
