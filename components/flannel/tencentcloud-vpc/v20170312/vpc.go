// Package vpc stands for the client of a cloud that kayak does not run on. It
// holds what flannel's backend for that cloud names, and refuses to be used.
package vpc

import "errors"

var errLeftOut = errors.New("the tencent-vpc backend is not part of this build of flannel")

type (
	Client struct{}

	Filter struct {
		Name   *string
		Values []*string
	}
	Route struct {
		RouteId              *uint64
		DestinationCidrBlock *string
		GatewayType          *string
		GatewayId            *string
		RouteType            *string
		Enabled              *bool
	}
	RouteTable struct {
		RouteTableId *string
		RouteSet     []*Route
	}

	DescribeRouteTablesRequest  struct{ Filters []*Filter }
	DescribeRouteTablesResponse struct {
		Response struct{ RouteTableSet []*RouteTable }
	}
	RoutesRequest struct {
		RouteTableId *string
		Routes       []*Route
	}
)

func NewClientWithSecretId(_, _, _ string) (*Client, error) { return &Client{}, nil }

func NewDescribeRouteTablesRequest() *DescribeRouteTablesRequest {
	return &DescribeRouteTablesRequest{}
}
func NewCreateRoutesRequest() *RoutesRequest { return &RoutesRequest{} }
func NewDeleteRoutesRequest() *RoutesRequest { return &RoutesRequest{} }

func (*Client) DescribeRouteTables(*DescribeRouteTablesRequest) (*DescribeRouteTablesResponse, error) {
	return nil, errLeftOut
}
func (*Client) CreateRoutes(*RoutesRequest) (*struct{}, error) { return nil, errLeftOut }
func (*Client) DeleteRoutes(*RoutesRequest) (*struct{}, error) { return nil, errLeftOut }
