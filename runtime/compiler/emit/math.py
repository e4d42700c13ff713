"""Operations of expressions in LLVM's language.

exp and log follow Cephes (S. L. Moshier); tanh and erf are the rational minimax approximations that Eigen and XLA use.
All are within a few units in the last place and pass NaN on.
"""

from collections.abc import Callable

from ..expression import Apply, Expression, Load, Number, Result, walk
from .code import ROUNDED, Code, Value, vector

TANH_P = (
    -2.76076847742355e-16,
    2.00018790482477e-13,
    -8.60467152213735e-11,
    5.12229709037114e-08,
    1.48572235717979e-05,
    6.37261928875436e-04,
    4.89352455891786e-03,
)
TANH_Q = (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)
EXP_P = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
LOG_P = (
    7.0376836292e-2,
    -1.1514610310e-1,
    1.1676998740e-1,
    -1.2420140846e-1,
    1.4249322787e-1,
    -1.6668057665e-1,
    2.0000714765e-1,
    -2.4999993993e-1,
    3.3333331174e-1,
)
ERF_P = (
    0.00022905065861350646,
    0.0034082910107109506,
    0.050955695062380861,
    0.18520832239976145,
    1.128379143519084,
)
ERF_Q = (
    -1.1791602954361697e-7,
    0.000023547966471313185,
    0.0010179625278914885,
    0.014070470171167667,
    0.11098505178285362,
    0.49746925110067538,
    1.0,
)
LOG2_E = 1.44269504088896341
LN2_HIGH, LN2_LOW = 0.693359375, -2.12194440e-4
NORMAL_BOUND = 88.0  # e^-x is below the smallest normal number here, and 1 + e^-x is 1
LARGEST_EXP, SMALLEST_EXP = 88.722839, -87.336548

LIBRARY = {
    name: f"{name}f"
    for name in ("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh")
}


def evaluate(
    code: Code, expression: Expression, load: Callable[[Load], Value], result: Value | None, lanes: int
) -> Value:
    """Write the code of an expression; every shared node once."""
    done: dict[int, Value] = {}
    for node in walk(expression):
        match node:
            case Load():
                value = load(node)
            case Number():
                value = code.number(node.value, lanes)
            case Result():
                assert result is not None
                value = result
            case Apply():
                value = operate(code, node.operation, [done[id(operand)] for operand in node.operands])
        done[id(node)] = value
    return done[id(expression)]


def operate(code: Code, operation: str, x: list[Value]) -> Value:
    """One operation."""
    lanes = x[0].lanes
    if operation in LIBRARY:
        return by_lane(code, LIBRARY[operation], x)
    match operation:
        case "add" | "sub":  # x x - y y is 0 where x and y are equal, and no less than 0 where x is larger
            return code.binary("f" + operation, x[0], x[1], ROUNDED)
        case "mul" | "div":
            return code.binary("f" + operation, x[0], x[1])
        case "neg":
            return Value(code.assign(f"fneg {x[0].type} {x[0].name}"), lanes)
        case "abs":
            return code.intrinsic("fabs", x[0])
        case "floor" | "ceil" | "trunc" | "sqrt":
            return code.intrinsic(operation, x[0])
        case "round":
            return code.intrinsic("rint", x[0])
        case "pow":
            return by_lane(code, "powf", x)
        case "remainder":
            return by_lane(code, "fmodf", x)
        case "modulo":
            rest = by_lane(code, "fmodf", x)
            zero = code.number(0, lanes)
            signs = code.binary("fmul", rest, x[1])
            return code.select(code.compare("olt", signs, zero), code.binary("fadd", rest, x[1]), rest)
        case "maximum":
            return larger(code, *x)
        case "minimum":
            return smaller(code, *x)
        case "less":
            return truth(code, code.compare("olt", *x), lanes)
        case "less_equal":
            return truth(code, code.compare("ole", *x), lanes)
        case "equal":
            return truth(code, code.compare("oeq", *x), lanes)
        case "isnan":
            return truth(code, code.compare("uno", x[0], x[0]), lanes)
        case "isinf":
            return truth(
                code, code.compare("oeq", code.intrinsic("fabs", x[0]), code.number(float("inf"), lanes)), lanes
            )
        case "and" | "or" | "xor":
            a, b = (is_true(code, value) for value in x)
            return truth(code, code.assign(f"{operation} {vector('i1', lanes)} {a}, {b}"), lanes)
        case "not":
            return truth(code, code.compare("oeq", x[0], code.number(0, lanes)), lanes)
        case "select":
            return code.select(is_true(code, x[0]), x[1], x[2])
        case "sign":
            zero, one, minus = (code.number(value, lanes) for value in (0.0, 1.0, -1.0))
            positive = code.select(code.compare("ogt", x[0], zero), one, x[0])
            return code.select(code.compare("olt", x[0], zero), minus, positive)
        case "exp":
            return exponential(code, x[0])
        case "sigmoid":
            return sigmoid(code, x[0])
        case "tanh":
            return rational(code, x[0], TANH_P, TANH_Q, 7.90531110763549805)
        case "erf":
            return rational(code, x[0], ERF_P, ERF_Q, 3.832506856900711)
        case "log":
            return logarithm(code, x[0])
    raise ValueError(f"operation {operation!r} has no code")


def truth(code: Code, condition: str, lanes: int) -> Value:
    return code.select(condition, code.number(1, lanes), code.number(0, lanes))


def is_true(code: Code, value: Value) -> str:
    return code.compare("une", value, code.number(0, value.lanes))


def larger(code: Code, a: Value, b: Value) -> Value:
    """The larger one, or NaN if either is."""
    found = code.select(code.compare("ogt", a, b), a, b)
    return code.select(code.compare("uno", a, a), a, found)


def smaller(code: Code, a: Value, b: Value) -> Value:
    """The smaller one, or NaN if either is."""
    found = code.select(code.compare("olt", a, b), a, b)
    return code.select(code.compare("uno", a, a), a, found)


def clamp(code: Code, x: Value, low: float, high: float) -> Value:
    """Between two constants; NaN stays."""
    floor, ceiling = code.number(low, x.lanes), code.number(high, x.lanes)
    x = code.select(code.compare("ogt", x, ceiling), ceiling, x)
    return code.select(code.compare("olt", x, floor), floor, x)


def polynomial(code: Code, x: Value, coefficients: tuple[float, ...]) -> Value:
    value = code.number(coefficients[0], x.lanes)
    for coefficient in coefficients[1:]:
        value = code.multiply_add(value, x, code.number(coefficient, x.lanes))
    return value


def rational(code: Code, x: Value, p: tuple[float, ...], q: tuple[float, ...], bound: float) -> Value:
    """x P(x^2) / Q(x^2), beyond the bound constant."""
    x = clamp(code, x, -bound, bound)
    square = code.binary("fmul", x, x)
    return code.binary("fdiv", code.binary("fmul", x, polynomial(code, square, p)), polynomial(code, square, q))


def exponential(code: Code, argument: Value) -> Value:
    """2^n times the exponential of what is left; the power of two in two halves, so that neither overflows."""
    lanes = argument.lanes
    whole = vector("i32", lanes)
    x = clamp(code, argument, SMALLEST_EXP, LARGEST_EXP)
    value, power = powers(code, x, 1.0)
    half = code.assign(f"ashr {whole} {power}, {splat(1, lanes)}")
    for part in (half, code.assign(f"sub {whole} {power}, {half}")):
        value = code.binary("fmul", value, scale(code, part, lanes))
    infinite = code.compare("ogt", argument, code.number(LARGEST_EXP, lanes))
    value = code.select(infinite, code.number(float("inf"), lanes), value)
    none = code.compare("olt", argument, code.number(SMALLEST_EXP, lanes))
    return code.select(none, code.number(0, lanes), value)


def powers(code: Code, x: Value, sign: float) -> tuple[Value, str]:
    """e^(sign x) as a number between sqrt(1/2) and sqrt(2) and a whole power of two."""
    lanes = x.lanes
    n = code.intrinsic("rint", code.binary("fmul", x, code.number(sign * LOG2_E, lanes)))
    rest = x if sign == 1 else Value(code.assign(f"fneg {x.type} {x.name}"), lanes)
    rest = code.multiply_add(n, code.number(-LN2_HIGH, lanes), rest)
    rest = code.multiply_add(n, code.number(-LN2_LOW, lanes), rest)
    tail = code.multiply_add(polynomial(code, rest, EXP_P), code.binary("fmul", rest, rest), rest)
    power = code.assign(f"fptosi {n.type} {n.name} to {vector('i32', lanes)}")
    return code.binary("fadd", tail, code.number(1, lanes)), power


def scale(code: Code, power: str, lanes: int) -> Value:
    """Two to a whole power from -126 to 127; 0 for -127."""
    whole = vector("i32", lanes)
    biased = code.assign(f"add {whole} {power}, {splat(127, lanes)}")
    bits = code.assign(f"shl {whole} {biased}, {splat(23, lanes)}")
    return Value(code.assign(f"bitcast {whole} {bits} to {vector('float', lanes)}"), lanes)


def decaying(code: Code, x: Value) -> Value:
    """e^x where x is not positive; 0 where that is below the normal numbers. Half the work of `exponential`."""
    mantissa, power = powers(code, clamp(code, x, -NORMAL_BOUND, 0.0), 1.0)
    return code.binary("fmul", mantissa, scale(code, power, x.lanes))


def sigmoid(code: Code, x: Value) -> Value:
    """1 / (1 + e^-x), where e^-x needs neither infinity nor numbers below the normal ones."""
    lanes = x.lanes
    mantissa, power = powers(code, clamp(code, x, -NORMAL_BOUND, NORMAL_BOUND), -1.0)
    one = code.number(1, lanes)
    return code.binary("fdiv", one, code.multiply_add(mantissa, scale(code, power, lanes), one))


def logarithm(code: Code, x: Value) -> Value:
    """Exponent times ln 2 plus the logarithm of the mantissa between sqrt(1/2) and sqrt(2)."""
    lanes = x.lanes
    whole = vector("i32", lanes)
    bits = code.assign(f"bitcast {x.type} {x.name} to {whole}")
    exponent = code.assign(
        f"sub {whole} {code.assign(f'lshr {whole} {bits}, {splat(23, lanes)}')}, {splat(126, lanes)}"
    )
    kept = code.assign(f"and {whole} {bits}, {splat(0x007FFFFF, lanes)}")
    half = code.assign(f"or {whole} {kept}, {splat(0x3F000000, lanes)}")
    m = Value(code.assign(f"bitcast {whole} {half} to {x.type}"), lanes)
    e = Value(code.assign(f"sitofp {whole} {exponent} to {x.type}"), lanes)
    one, zero = code.number(1, lanes), code.number(0, lanes)
    low = code.compare("olt", m, code.number(0.707106781186547524, lanes))
    e = code.binary("fsub", e, code.select(low, one, zero))
    m = code.binary("fsub", code.binary("fadd", m, code.select(low, m, zero)), one)
    square = code.binary("fmul", m, m)
    y = code.binary("fmul", code.binary("fmul", polynomial(code, m, LOG_P), m), square)
    y = code.multiply_add(e, code.number(LN2_LOW, lanes), y)
    y = code.multiply_add(square, code.number(-0.5, lanes), y)
    value = code.multiply_add(e, code.number(LN2_HIGH, lanes), code.binary("fadd", m, y))
    infinity = code.number(float("inf"), lanes)
    value = code.select(code.compare("oeq", x, infinity), infinity, value)
    value = code.select(code.compare("oeq", x, zero), code.number(float("-inf"), lanes), value)
    return code.select(code.compare("ult", x, zero), code.number(float("nan"), lanes), value)


def splat(value: int, lanes: int) -> str:
    return str(value) if lanes == 1 else "<" + ", ".join([f"i32 {value}"] * lanes) + ">"


def by_lane(code: Code, function: str, x: list[Value]) -> Value:
    """A function of the C library for every lane: rare operations are not worth more."""
    lanes = x[0].lanes
    if lanes == 1:
        return Value(code.call(function, "float", [("float", value.name) for value in x]), 1)
    value = "poison"
    for lane in range(lanes):
        arguments = [("float", code.lane(operand, lane).name) for operand in x]
        one = code.call(function, "float", arguments)
        value = code.assign(f"insertelement {x[0].type} {value}, float {one}, i32 {lane}")
    return Value(value, lanes)
