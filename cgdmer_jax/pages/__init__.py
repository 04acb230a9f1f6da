"""Pages for people: one HTML file each, without anything from elsewhere."""
