"""Phones that Google rents by the minute: its Developer Device Platform."""
