"""What turns integer steps into motion: clocks, motion profiles, axes and the stage above them.

Imports nothing of the other packages. Inside this package a position is an integer number of motor
steps; only ``stage`` knows micrometres.
"""
