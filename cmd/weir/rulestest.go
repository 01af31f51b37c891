package main

import (
	"fmt"
	"io"
	"os"

	"github.com/weir-metrics/weir/relabel"
)

// testRules runs the tests in files of relabel rules, and returns the exit code: 1
// when one fails, or a file is not right. Every file is looked at.
func testRules(files []string, stdout io.Writer) int {
	code := 0
	for _, file := range files {
		fmt.Fprintf(stdout, "Testing %s\n", file)
		tests, errs := testFile(file)
		if len(errs) == 0 {
			fmt.Fprintf(stdout, "  SUCCESS: %d tests passed\n", tests)
			continue
		}
		code = 1
		fmt.Fprintln(stdout, "  FAILED:")
		for _, err := range errs {
			fmt.Fprintf(stdout, "    %v\n", err)
		}
	}
	return code
}

// testFile returns how many tests a file has that pass, or all that is wrong.
func testFile(file string) (tests int, errs []error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, []error{err}
	}
	defer f.Close()
	c, errs := relabel.Read(f)
	if len(errs) > 0 {
		return 0, errs
	}
	if tests = len(c.Tests); c.Shadow != nil {
		tests += len(c.Shadow.Tests)
	}
	return tests, c.Validate("")
}
