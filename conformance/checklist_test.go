package conformance_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// checklist spells out the rows that the suite must answer for: families with their last number, and the attacks, which are
// numbered with gaps.
func checklist() []string {
	var ids []string
	for _, f := range []struct {
		family string
		last   int
	}{
		{"TX", 60},
		{"AT", 12},
		{"RI", 4},
		{"MD", 5},
		{"IS", 1},
		{"RAR", 17},
		{"DP", 27},
		{"RV", 9},
		{"IN", 6},
		{"CA", 10},
		{"PAR", 8},
		{"JB", 11},
		{"O21", 17},
		{"UI", 11},
		{"OT", 32},
		{"ML", 4},
		{"WL", 7},
		{"ACT", 17},
		{"SSF", 4},
	} {
		for n := range f.last {
			ids = append(ids, fmt.Sprintf("%s-%02d", f.family, n+1))
		}
	}
	for _, n := range []int{
		1, 2, 4, 5, 7, 8, 10, 11, 13, 14, 16, 17, 19, 20, 22, 23, 25, 26, 28, 29, 31, 32, 34, 35, 37, 38, 40, 41, 43, 44, 46, 47, 49, 50, 52, 53, 55, 56,
		58, 59, 61, 62, 64, 65, 67, 68, 70, 71, 73, 74, 76, 77, 79, 80, 82, 83, 85, 86, 88, 89, 91, 92, 94, 95, 97, 98, 100, 101, 103, 104, 106, 107, 109,
		110, 112, 113, 115, 116, 118, 119, 121, 122, 124, 125, 127, 128, 130, 131, 133, 134, 136, 137, 139, 140, 142, 143, 145, 146,
	} {
		ids = append(ids, fmt.Sprintf("NEG-%03d", n))
	}
	return append(ids, "CM-06") // the one row of its family that is about every address, not about client metadata documents
}

var (
	rowOf   = regexp.MustCompile(`(?m)^\| ((?:[A-Z][A-Z0-9]+)-[0-9]+) \| (.+) \|$`)
	mention = regexp.MustCompile(`\b(?:TX|AT|RI|MD|IS|RAR|DP|RV|IN|CA|PAR|JB|O21|UI|OT|NEG|ML|WL|ACT|SSF|CM)-[0-9]+\b`)
)

// TestEveryRequirementHasAnAnswer: each row of the checklist is a case of the suite, or a row of docs/rfc.md that says which
// cases hold it or why there is none; and what docs/rfc.md says holds something is there.
func TestEveryRequirementHasAnAnswer(t *testing.T) {
	t.Parallel()
	var held []string
	for _, tc := range cases() {
		if slices.Contains(held, tc.id) {
			t.Errorf("%s is there twice", tc.id)
		}
		if tc.title == "" || tc.run == nil {
			t.Errorf("%s is empty", tc.id)
		}
		held = append(held, tc.id)
	}
	doc, err := os.ReadFile(filepath.Join("..", "docs", "rfc.md"))
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, row := range rowOf.FindAllStringSubmatch(string(doc), -1) {
		id, what := row[1], row[2]
		told = append(told, id)
		if slices.Contains(held, id) {
			t.Errorf("docs/rfc.md explains the absence of %s, which is a case", id)
		}
		for _, other := range mention.FindAllString(what, -1) {
			if !slices.Contains(held, other) {
				t.Errorf("docs/rfc.md: %s is said to be held by %s, which is no case", id, other)
			}
		}
	}
	for _, id := range checklist() {
		if !slices.Contains(held, id) && !slices.Contains(told, id) {
			t.Errorf("%s is neither a case nor a row of docs/rfc.md", id)
		}
	}
	for _, id := range mention.FindAllString(string(doc), -1) {
		if !slices.Contains(checklist(), id) {
			t.Errorf("docs/rfc.md speaks of %s, which the checklist does not have", id)
		}
	}
}
