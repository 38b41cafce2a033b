"""Histories of users, for impressions that are still to be scored."""
