/** The style of the index page; light or dark as the reader's system is. */
export const style = `
:root {
  color-scheme: light dark;
  --page: light-dark(#f6f7f9, #0d1117); --card: light-dark(#fff, #161b22); --line: light-dark(#d8dee4, #2b323b);
  --text: light-dark(#1f2328, #e6edf3); --dim: light-dark(#59636e, #9198a1); --link: light-dark(#0550ae, #79b8ff);
  --good: light-dark(#1a7f37, #3fb950); --warn: light-dark(#9a6700, #d29922); --bad: light-dark(#cf222e, #ff7b72);
  --idle: light-dark(#6e7781, #8b949e);
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 88rem; padding: 1.5rem 1.25rem 3rem; background: var(--page); color: var(--text);
  font: 15px/1.45 system-ui, -apple-system, 'Segoe UI', sans-serif; overflow-wrap: anywhere;
}
a { color: var(--link); text-decoration: none; }
a:hover, a:focus-visible { text-decoration: underline; }
header { display: flex; flex-wrap: wrap; align-items: center; gap: .5rem 1.5rem; }
h1 { display: flex; align-items: center; gap: .6rem; margin: 0; font-size: 1.15rem; font-weight: 600; }
h1 svg { width: 2.2rem; height: 1.3rem; stroke: var(--tone); fill: none; stroke-width: 2; }
h1 small, .dim { color: var(--dim); font-weight: 400; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin-left: auto; }
h2 { margin: 2rem 0 .6rem; font-size: 1rem; font-weight: 600; }
.headline { margin: 1.3rem 0 1rem; font-size: 1.6rem; font-weight: 600; line-height: 1.25; letter-spacing: -.01em; }
.together { margin: 0 0 1rem; font-weight: 600; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .8rem; margin: 0 0 1.2rem; }
.figures div, .sheet { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; }
.figures div { padding: .7rem 1rem; }
dt { color: var(--dim); font-size: .85rem; }
dd { margin: 0; font-size: 1.35rem; font-weight: 600; font-variant-numeric: tabular-nums; }
dd small { display: inline-block; color: var(--dim); font-size: .85rem; font-weight: 400; line-height: 1.3; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { padding: .6rem .8rem; color: var(--dim); font-size: .8rem; font-weight: 500; text-align: left; white-space: nowrap; }
td { padding: .75rem .8rem; vertical-align: top; border-top: 1px solid var(--line); }
td:first-child { border-left: 4px solid var(--tone); }
tr:last-child td:first-child { border-bottom-left-radius: .55rem; }
td > small { display: block; color: var(--dim); font-size: .85rem; }
td:first-child, .who { min-width: 10.5rem; }
.name { font-weight: 600; }
.number { white-space: nowrap; }
.wide { min-width: 15rem; }
.clamp { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 3; overflow: hidden; }
.state {
  display: inline-block; padding: 0 .6rem; border-radius: 1rem; color: var(--tone); font-weight: 600; white-space: nowrap;
  background: color-mix(in srgb, var(--tone) 13%, transparent);
}
.good { --tone: var(--good); } .warn { --tone: var(--warn); } .bad { --tone: var(--bad); } .idle { --tone: var(--idle); }
.strip { display: block; width: 11rem; height: 1.7rem; margin-bottom: .2rem; border-bottom: 1px solid var(--line); }
.strip rect { fill: var(--tone); }
.strip rect:hover { opacity: .6; }
.none { padding: 1.5rem; }
@media (max-width: 78rem) {
  thead { position: absolute; clip-path: inset(50%); width: 1px; height: 1px; overflow: hidden; }
  table, tbody { display: block; }
  tr { display: grid; grid-template-columns: repeat(auto-fill, minmax(11.5rem, 1fr)); gap: .8rem 1rem; padding: .9rem 1rem;
    border-left: 4px solid var(--tone); border-top: 1px solid var(--line); }
  tr:first-child { border-top: 0; border-top-left-radius: .55rem; }
  tr:last-child { border-bottom-left-radius: .55rem; }
  td, td:first-child { padding: 0; border: 0; min-width: 0; }
  td.wide { grid-column: span 2; }
  td[data-label]::before { content: attr(data-label); display: block; color: var(--dim); font-size: .8rem; }
}
@media (max-width: 27rem) {
  td.wide { grid-column: auto; }
}
`
