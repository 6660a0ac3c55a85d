"""The supervisor behind `stead up`, and the mains of server, gateway and agent."""
