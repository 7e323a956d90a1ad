"""A filter as the kernel's inet_diag bytecode: what ss sends along so that the kernel can drop rows itself.

Enters: an expression. Leaves: the payload of the attribute INET_DIAG_REQ_BYTECODE, byte for byte ss's (only the two
bytes of padding inside a host condition, which ss leaves to chance, are zero here), or None where ss sends none.

An instruction is struct inet_diag_bc_op (include/uapi/linux/inet_diag.h, since Linux 2.6.12; marks 4.11, cgroups
5.8): code, ``yes`` = offset of the next instruction when the test holds, ``no`` = offset when it does not. Offsets
count from the instruction itself. A program accepts a socket when it arrives exactly at its end; beyond the end (by
4) it refuses. So a failed test jumps to "end + 4", and the joints are: *and* writes the second program behind the
first; *or* puts a jump over the second between them, which makes the first's refusals land on the second's start;
*not* puts a jump by 8 at the end, which turns refusals into arrivals and arrivals into refusals.

The numbers are in the byte order of the machine, as the kernel takes them.
"""

from struct import Struct
from typing import Final

import msgspec

from sstrace.model import AF_INET6
from sstrace.query.expression import Autobound, Cgroup, Chain, Compare, Expr, Host, Mark, Match, Not

__all__ = ["LONGEST", "compile_bytecode"]

LONGEST: Final = 0xFFFF - 4
"""Bytes that fit into a netlink attribute besides its header (struct rtattr: rta_len is a __u16)."""

_JMP: Final = 1
_S_GE: Final = 2
_S_LE: Final = 3
_D_GE: Final = 4
_D_LE: Final = 5
_AUTO: Final = 6
_S_COND: Final = 7
_D_COND: Final = 8
_MARK_COND: Final = 10
_CGROUP_COND: Final = 13

_OP: Final = Struct("=BBH")  # struct inet_diag_bc_op
_NO: Final = Struct("=H")
_HOST: Final = Struct("=BBxxI")  # struct inet_diag_hostcond: family, prefix_len, port; the address follows
_MARK: Final = Struct("=II")  # struct inet_diag_markcond: mark, mask
_CGROUP: Final = Struct("=Q")


class _Program(msgspec.Struct):
    """Code, and the positions of the instructions whose ``no`` still means "beyond the end", wherever that will be."""

    code: bytearray
    refusals: list[int]

    def settle(self) -> None:
        """Write the open offsets, now that the program has its final length."""
        beyond = len(self.code) + 4
        for at in self.refusals:
            _NO.pack_into(self.code, at + 2, beyond - at & 0xFFFF)
        self.refusals = []


def compile_bytecode(expression: Expr | None) -> bytes | None:
    """Compile a filter; None when there is none, or when it holds a test that the kernel cannot make.

    ``dev`` and ``held`` are such tests, and one of them anywhere spoils the whole. A program longer than ``LONGEST``
    gives None as well (ss would send it with a length that has wrapped around; the rows come out the same).
    """
    if expression is None:
        return None
    program = _compile(expression)
    if program is None or len(program.code) > LONGEST:
        return None
    program.settle()
    return bytes(program.code)


def _compile(expression: Expr) -> _Program | None:
    if isinstance(expression, Chain):
        return _chain(expression)
    if isinstance(expression, Not):
        program = _compile(expression.inner)
        if program is None:
            return None
        program.settle()
        program.refusals = [len(program.code)]
        program.code += _OP.pack(_JMP, 4, 0)
        return program
    if isinstance(expression, Match):
        return _match(expression)
    if isinstance(expression, Compare):
        codes = (_S_LE, _S_GE) if expression.local else (_D_LE, _D_GE)
        return _one(codes[expression.at_least], _OP.pack(0, 0, expression.port & 0xFFFF))
    if isinstance(expression, Autobound):
        return _one(_AUTO, b"")
    if isinstance(expression, Mark):
        return _one(_MARK_COND, _MARK.pack(expression.value, expression.mask))
    if isinstance(expression, Cgroup):
        return _one(_CGROUP_COND, _CGROUP.pack(expression.id & 0xFFFFFFFFFFFFFFFF))
    return None


def _one(code: int, condition: bytes) -> _Program:
    return _Program(bytearray(_OP.pack(code, 4 + len(condition), 0) + condition), [0])


def _chain(chain: Chain) -> _Program | None:
    program = _compile(chain.first)
    if program is None:
        return None
    for operator, test in chain.rest:
        # A program this long is refused anyway; without this, its parts would be compiled for nothing.
        if len(program.code) > LONGEST:
            return program
        second = _compile(test)
        if second is None:
            return None
        if operator == "or":
            program.settle()
            second_length = len(second.code)
            # Settled offsets point 4 beyond the first program: behind the jump, where the second starts.
            program.code += _OP.pack(_JMP, 4, second_length + 4 & 0xFFFF)
        start = len(program.code)
        program.code += second.code
        program.refusals += [start + at for at in second.refusals]
    return program


def _match(match: Match) -> _Program:
    """Test a host. Of a name with several addresses ss repeats the first instead of testing each; so do we."""
    operation = _S_COND if match.local else _D_COND
    host = match.hosts[0]
    condition = _condition(host)
    length = 4 + len(condition)
    code = bytearray()
    last = len(match.hosts) - 1
    total = length * (last + 1) + 4 * last
    for _ in range(last):
        code += _OP.pack(operation, length, length + 4) + condition
        code += _OP.pack(_JMP, 4, total - len(code) & 0xFFFF)
    refusal = len(code)
    code += _OP.pack(operation, length, 0) + condition
    return _Program(code, [refusal])


def _condition(host: Host) -> bytes:
    address = host.address if host.family == AF_INET6 else host.address[:4]
    return _HOST.pack(host.family, host.bits & 0xFF, host.port & 0xFFFFFFFF) + address
