"""Trains the networks that come with Albumen. Nothing here runs while photographs are restored."""
