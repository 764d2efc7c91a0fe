"""The detector: from windows of any kind to scores, incidents and reasons.

In the order of the work: `spec` (what a window holds), `table` (windows from a file), `grid` (windows by time and entity),
`slots` or `trailing` (what is usual), `memory` (what the last hours and the other entities say), `axes` (what belongs together),
`forest` (the Isolation Forest), `persistence` and `incidents` (what a person is told), `calibrate` (from when on).
"""
