"""Measuring real time: will it hold, and where does the time go?"""
