"""Other programs that call goca: each module speaks one program's interface and imports nothing of the program's own.

The exception is :mod:`goca.integrations.cvat`, which needs CVAT's SDK (``pip install cvat-sdk``).
"""
