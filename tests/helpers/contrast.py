"""Finds text of a page that is too faint to read: less than 4.5 to 1 against what is behind it (WCAG 2.2, 1.4.3)."""

from __future__ import annotations

# An expression of JavaScript whose value is a list: contrast, colour and element. Text over pictures is not judged.
FAINT = """() => {
  const parse = text => { const n = (text.match(/[\\d.]+/g) || []).map(Number);
    return n.length < 4 ? [...n.slice(0, 3), 1] : n; };
  const over = (top, under) => [0, 1, 2].map(i => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
  const light = c => c.slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = e => { const own = parse(getComputedStyle(e).backgroundColor);
    return own[3] === 1 ? own : over(own, e.parentElement ? behind(e.parentElement) : [255, 255, 255, 1]); };
  const shown = e => e.checkVisibility({opacityProperty: true, visibilityProperty: true}) && e.getClientRects().length;
  const faint = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    const field = e.matches('input[type=text], input[type=number], textarea');
    if (!(own || field) || !shown(e) || e.closest('[disabled], script, style')) continue;
    for (const pseudo of field && e.placeholder ? [null, '::placeholder'] : [null]) {
      const style = getComputedStyle(e, pseudo), under = behind(e);
      const [a, b] = [light(over(parse(style.color), under)), light(under)].sort((x, y) => y - x);
      const ratio = (a + 0.05) / (b + 0.05);
      if (ratio < 4.5) faint.push([ratio.toFixed(2), style.color, e.outerHTML.slice(0, 100)].join(' '));
    }
  }
  return faint;
}"""
