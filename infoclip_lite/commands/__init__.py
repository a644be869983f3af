"""One file for each command of `infoclip-lite`: its arguments, their help, a call of what notebooks call.

A command imports what it calls inside its function: the help of all commands, and an error in an argument,
must not wait for torch.
"""
