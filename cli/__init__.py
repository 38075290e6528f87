"""How people call `lab`; no arithmetic here."""
