"""How a page looks: light or dark as its reader's system is, and on a phone as well."""

__all__ = ["STYLE"]

_LIGHT = """\
body { background: #fff; color: #1c2024; }
.faint, small, dt, .axis, thead th { color: #626a73; }
h2, th, td, .strip svg { border-color: #d9dde1; }
dl > div, .strip svg { background: #f4f6f8; }
.bar { background: #2a6fbb; }
.opened, .spread, .f0 { fill: #2a6fbb; } .closed { fill: #7b8794; }
.s0 { fill: #c62828; } .s1 { fill: #e07b00; } .s2 { fill: #8e44ad; }
.s3 { fill: #b8860b; } .s4 { fill: #d6336c; } .s5 { fill: #6d4c41; }
.f1 { fill: #d97706; } .f2 { fill: #2e8b57; } .f3 { fill: #8e44ad; } .f4 { fill: #c2185b; } .f5 { fill: #0f8b8d; }
"""
_DARK = """\
body { background: #14171a; color: #e4e8ec; }
.faint, small, dt, .axis, thead th { color: #99a3ad; }
h2, th, td, .strip svg { border-color: #343b42; }
dl > div, .strip svg { background: #1e2328; }
.bar { background: #62a8f0; }
.opened, .spread, .f0 { fill: #62a8f0; } .closed { fill: #8d99a6; }
.s0 { fill: #ff6b6b; } .s1 { fill: #ffa94d; } .s2 { fill: #c792ea; }
.s3 { fill: #e6c34a; } .s4 { fill: #ff7eb6; } .s5 { fill: #bf9b8c; }
.f1 { fill: #ffb04d; } .f2 { fill: #5fc78a; } .f3 { fill: #c792ea; } .f4 { fill: #ff7eb6; } .f5 { fill: #4fc9cb; }
"""
_LAYOUT = """\
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 64rem; padding: 1rem; font: 1rem/1.45 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem; padding-top: .8rem; border-top: 1px solid; }
h3 { font-size: .95rem; margin: 1rem 0 .2rem; }
h3 small { font-weight: normal; }
p { margin: .2rem 0 .6rem; overflow-wrap: anywhere; }
.faint, small, dt { font-size: .85rem; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .5rem; margin: 1rem 0; }
dl > div { border-radius: .4rem; padding: .5rem .7rem; }
dd { margin: 0; font-size: 1.3rem; font-variant-numeric: tabular-nums; }
dd small { display: block; }
svg { display: block; width: 100%; }
.strip svg { height: 4.5rem; border-bottom: 1px solid; }
.axis { display: flex; justify-content: space-between; font-size: .8rem; }
svg.key { display: inline-block; width: .75rem; height: .75rem; margin-right: .35rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .5rem; text-align: right; border-bottom: 1px solid; white-space: nowrap; }
th { font-weight: normal; }
th:first-child { text-align: left; padding-left: 0; }
tbody th { max-width: 22rem; min-width: 7rem; white-space: normal; overflow-wrap: anywhere; }
td:last-child:has(.bar) { width: 25%; min-width: 4rem; text-align: left; }
.bar { display: block; height: .7rem; min-width: 1px; border-radius: .1rem; }
.spreads { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: 0 1.5rem; }
.spreads tbody th { min-width: 0; } .spreads th, .spreads td { padding: .2rem .25rem; }
.flow { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1.3fr) minmax(0, 1fr); gap: 0 .4rem; }
.flow ol { list-style: none; margin: 0; padding: 0; font-size: .85rem; }
.flow ol:first-child { text-align: right; }
.flow li { height: 2.8rem; line-height: 1.25rem; overflow: hidden; white-space: nowrap; text-overflow: ellipsis; }
.flow small { white-space: normal; } .flow small span { display: inline-block; }
.flow div { position: relative; } .flow svg { position: absolute; inset: 0; height: 100%; }
.flow path { fill-opacity: .55; } .flow path:hover { fill-opacity: .95; }
@media (max-width: 34rem) {
  body { padding: .7rem; } th, td { padding: .2rem .3rem; }
  .flow li { height: 4rem; } .flow small { font-size: .75rem; }
}
"""
STYLE = f"{_LAYOUT}{_LIGHT}@media (prefers-color-scheme: dark) {{\n{_DARK}}}\n"
