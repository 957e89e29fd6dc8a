package names

// lookalikes are characters that are taken for Latin letters, and the Latin ones that are taken for each other. Lower-case
// forms stand for both cases unless the capital looks like another letter.
var lookalikes = map[rune]string{ //nolint:gochecknoglobals // a constant table
	// digits and signs
	'0': "o", '1': "l", '|': "l", 'i': "l", 'I': "l", 'l': "l", 'ı': "l", '$': "s", '5': "s", '@': "a", '3': "e",
	// Latin letters that are no accented ones
	'ɑ': "a", 'ɩ': "l", 'ƒ': "f", 'ɡ': "g", 'ø': "o", 'đ': "d", 'ł': "l", 'ħ': "h", 'ŧ': "t", 'ß': "ss", 'æ': "ae", 'œ': "oe",
	'ƅ': "b", 'ɒ': "a", 'ɪ': "l", 'ʏ': "y", 'ᴄ': "c", 'ᴏ': "o", 'ᴠ': "v", 'ᴡ': "w", 'ᴢ': "z", 'ꜱ': "s", 'ǀ': "l",
	// Cyrillic
	'а': "a", 'в': "b", 'с': "c", 'ԁ': "d", 'е': "e", 'ё': "e", 'ғ': "f", 'ԍ': "g", 'һ': "h", 'і': "l", 'ї': "l", 'ј': "j",
	'к': "k", 'ӏ': "l", 'Ӏ': "l", 'м': "m", 'Н': "h", 'н': "h", 'о': "o", 'р': "p", 'ԛ': "q", 'ѕ': "s", 'т': "t", 'ц': "u",
	'ѵ': "v", 'ԝ': "w", 'х': "x", 'у': "y", 'ү': "y", 'з': "e", 'п': "n", 'г': "r", 'ь': "b", 'ѡ': "w", 'ҽ': "e", 'є': "e",
	// Greek
	'α': "a", 'β': "b", 'ϲ': "c", 'ε': "e", 'η': "n", 'Η': "h", 'ι': "l", 'κ': "k", 'μ': "u", 'Μ': "m", 'ν': "v", 'Ν': "n",
	'ο': "o", 'ρ': "p", 'σ': "o", 'ς': "c", 'τ': "t", 'υ': "u", 'Υ': "y", 'χ': "x", 'ω': "w", 'γ': "y", 'ζ': "z", 'ϳ': "j",
	// Armenian, and capitals of other scripts
	'օ': "o", 'ո': "n", 'ս': "u", 'հ': "h", 'ց': "g", 'ք': "p", 'զ': "q", 'յ': "j",
	'Ꭺ': "a", 'Ᏼ': "b", 'Ꮯ': "c", 'Ꭼ': "e", 'Ꮋ': "h", 'Ꭵ': "l", 'Ꭻ': "j", 'Ꮶ': "k", 'Ꮮ': "l", 'Ꮇ': "m",
	'Ꮲ': "p", 'Ꭱ': "r", 'Ꮪ': "s", 'Ꭲ': "t", 'Ꮩ': "v", 'Ꮃ': "w", 'Ꮓ': "z", 'Ꮐ': "g", 'ⲟ': "o", 'ⲣ': "p", 'ⲥ': "c",
}
