"""The compiler: a streaming ONNX model becomes one function of machine code.

    read -> lower -> passes -> plan memory -> emit -> machine code (cached)

`memory` and `program` say what a program is, `reference` what it means.
"""
