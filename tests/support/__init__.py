"""What tests are written with: databases, clients, real servers."""
