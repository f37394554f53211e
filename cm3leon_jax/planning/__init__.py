"""Planning: what a program will need, and how fast it will be, on a TPU slice that is not there.

The program is compiled ahead of time by the TPU's own compiler (libtpu runs on any host), and its text is read.
"""
