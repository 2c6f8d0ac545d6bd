package resolvers

import (
	"cmp"

	"github.com/netra-ai/netra/models"
)

// checkSupplyItemFilter refuses conditions that mean nothing. It fails with BadUserInput.
func checkSupplyItemFilter(f *models.SupplyItemFilter) error {
	if f == nil {
		return nil
	}
	return cmp.Or(models.CheckConditions(f.Specifications), models.CheckConditions(f.Pricing),
		models.CheckConditions(f.Availability), models.CheckConditions(f.PerformanceMetrics))
}
