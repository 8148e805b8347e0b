"""What the pictures share beside style: checks of what they are given, and labels."""
