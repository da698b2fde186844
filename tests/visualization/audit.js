// What is wrong with a page as it is shown now.
const luminance = c => {
  const [r, g, b] = c.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  return 0.2126 * r + 0.7152 * g + 0.0722 * b
}
const colour = text => (text.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number)
const contrast = (a, b) => {
  const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x)
  return (high + 0.05) / (low + 0.05)
}
const ground = element => {
  for (let each = element; each; each = each.parentElement) {
    const [r, g, b, alpha = 1] = colour(getComputedStyle(each).backgroundColor)
    if (alpha > 0.99) return [r, g, b]
  }
  return [255, 255, 255]
}
const shown = element => element.checkVisibility({visibilityProperty: true}) && element.getBoundingClientRect().width > 0
const scrolls = element => {
  for (let each = element.parentElement; each && each !== document.body; each = each.parentElement)
    if (['auto', 'scroll', 'hidden'].includes(getComputedStyle(each).overflowX)) return true
  return false
}
const name = element => `${element.tagName} ${(element.textContent || '').trim().slice(0, 40)}`
const found = {overflow: [], contrast: [], small: [], crushed: [], broken: [], links: [], texts: 0}
for (const details of document.querySelectorAll('details')) details.open = true
const root = document.documentElement
if (root.scrollWidth > root.clientWidth) found.overflow.push(`page ${root.scrollWidth} of ${root.clientWidth}`)
for (const element of document.querySelectorAll('body *'))
  if (shown(element) && !element.closest('svg svg, svg *') && !scrolls(element)
      && element.getBoundingClientRect().right > root.clientWidth + 1) found.overflow.push(name(element))
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement
  if (!walker.currentNode.data.trim() || !shown(element) || ['SCRIPT', 'STYLE'].includes(element.tagName)) continue
  found.texts += 1
  const style = getComputedStyle(element), drawn = element.closest('svg')
  const ratio = contrast(colour(drawn ? style.fill : style.color).slice(0, 3), ground(element))
  let size = parseFloat(style.fontSize)
  if (drawn) { const matrix = element.getScreenCTM(); size *= Math.hypot(matrix.a, matrix.b) }
  const large = size >= 24 || size >= 18.66 && style.fontWeight >= 700
  if (ratio < (large ? 3 : 4.5)) found.contrast.push(`${name(element)}: ${ratio.toFixed(2)}`)
  const range = document.createRange()
  range.selectNode(walker.currentNode)
  if (element.closest('th, td') && range.getClientRects().length > 4) found.crushed.push(name(element))
  if (size < (element.tagName === 'tspan' ? 7 : 8))  // exponents are small by nature
    found.small.push(`${name(element)}: ${size.toFixed(1)}`)
}
for (const image of document.images) if (!image.complete || !image.naturalWidth) found.broken.push(image.src.slice(-80))
for (const link of document.querySelectorAll('a[href]')) {
  const target = link.getAttribute('href')
  if (!target.startsWith('#')) found.links.push(decodeURI(target))
  else if (!document.getElementById(target.slice(1))) found.broken.push(target)
}
return found
