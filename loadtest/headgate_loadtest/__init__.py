"""The load: open-loop arrivals, measurements, reports, and the hand-written loop they are compared with."""
