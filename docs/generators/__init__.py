"""What fills the generated parts of the documentation."""
