"""What runs inside a model's environment: the journal, the step runner, model formats, the worker and its frames.

Imports the standard library, msgspec and what the model itself uses, nothing else of stead but `errors`. It is put on
the path of a process when the process starts and never installed into the locked environment.
"""
